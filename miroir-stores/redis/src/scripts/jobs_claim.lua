-- ARGV[2]: kind. ARGV[3]: how long, in milliseconds. Answers the job, or nothing.
local open = p .. 'jobs:open:' .. ARGV[2]
local id = call('ZRANGE', open, '-inf', now, 'BYSCORE', 'LIMIT', 0, 1)[1]
if not id then
  return {}
end
call('ZADD', open, string.format('%d', now + ARGV[3]), id)
call('HINCRBY', key(id), 'attempt', 1)
return show(id)
