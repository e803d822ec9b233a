-- ARGV[2]: scope. ARGV[3]: holder. ARGV[4]: fence. ARGV[5]: how much longer, in milliseconds; 0 ends
-- it. Answers whether the lease was in force.
local lease = p .. 'lease:' .. ARGV[2]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = call('HMGET', lease, 'holder', 'fence', 'until')
if held[1] ~= ARGV[3] or held[2] ~= ARGV[4] or tonumber(held[3]) <= now then
  return 0
end
call('HSET', lease, 'until', string.format('%d', now + ARGV[5]))
return 1
