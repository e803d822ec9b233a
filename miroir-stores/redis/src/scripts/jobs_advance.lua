-- ARGV[2]: id. ARGV[3]: attempt. ARGV[4]: cursor. ARGV[5]: how long, in milliseconds. Answers whether
-- the claim counted.
local kind = claimed(ARGV[2], ARGV[3])
if not kind then
  return 0
end
call('HSET', key(ARGV[2]), 'cursor', ARGV[4])
call('ZADD', p .. 'jobs:open:' .. kind, string.format('%d', now + ARGV[5]), ARGV[2])
return 1
