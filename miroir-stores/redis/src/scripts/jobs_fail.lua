-- ARGV[2]: id. ARGV[3]: attempt. ARGV[4]: 1 if it is never tried again. ARGV[5]: why. Answers whether
-- the claim counted.
local id = ARGV[2]
local kind = claimed(id, ARGV[3])
if not kind then
  return 0
end
if ARGV[4] == '1' then
  call('HSET', key(id), 'error', ARGV[5])
  call('ZREM', p .. 'jobs:open:' .. kind, id)
else
  call('ZADD', p .. 'jobs:open:' .. kind, call('HGET', key(id), 'number'), id)
end
return 1
