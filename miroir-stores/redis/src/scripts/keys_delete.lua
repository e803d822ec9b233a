-- ARGV[2]: uid. Answers whether there was such a key.
call('ZREM', p .. 'api_keys:_index', ARGV[2])
return call('DEL', p .. 'api_key:' .. ARGV[2])
