-- ARGV[2]: index.
return call('DEL', p .. 'node_settings_version:' .. ARGV[2])
