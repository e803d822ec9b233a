-- ARGV[2]: name.
call('HDEL', ends, ARGV[2])
call('HDEL', reports, ARGV[2])
call('HDEL', told, ARGV[2])
return 0
