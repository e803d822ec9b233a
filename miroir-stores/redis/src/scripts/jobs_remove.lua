-- ARGV[2]: id. Answers whether there was one.
local kind = call('HGET', key(ARGV[2]), 'kind')
if not kind then
  return 0
end
call('DEL', key(ARGV[2]))
call('ZREM', p .. 'jobs:of:' .. kind, ARGV[2])
call('ZREM', p .. 'jobs:open:' .. kind, ARGV[2])
return 1
