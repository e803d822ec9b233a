-- ARGV[2]: uuid. ARGV[3]: record. ARGV[4]: how many there may be. Answers whether it was written.
local hooks = p .. 'webhooks'
if call('HEXISTS', hooks, ARGV[2]) == 0 and call('HLEN', hooks) >= tonumber(ARGV[4]) then
  return 0
end
call('HSET', hooks, ARGV[2], ARGV[3])
return 1
