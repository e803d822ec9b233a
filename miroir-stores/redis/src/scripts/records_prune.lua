-- ARGV[2]: table. Redis forgets records by itself; their keys in the index go here. Answers 0.
call('ZREMRANGEBYSCORE', index(ARGV[2]), '-inf', now)
return 0
