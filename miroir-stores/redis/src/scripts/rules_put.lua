-- ARGV[2]: uid. ARGV[3]: record.
call('HSET', p .. 'rules', ARGV[2], ARGV[3])
return 0
