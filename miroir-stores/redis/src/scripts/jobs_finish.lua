-- ARGV[2]: id. ARGV[3]: attempt. From ARGV[4] on: what follows, as for `jobs_put`. Answers whether the
-- claim counted.
local kind = claimed(ARGV[2], ARGV[3])
if not kind then
  return 0
end
call('DEL', key(ARGV[2]))
call('ZREM', p .. 'jobs:of:' .. kind, ARGV[2])
call('ZREM', p .. 'jobs:open:' .. kind, ARGV[2])
add(4)
return 1
