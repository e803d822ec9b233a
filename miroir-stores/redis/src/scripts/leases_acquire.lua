-- ARGV[2]: scope. ARGV[3]: holder. ARGV[4]: how long, in milliseconds. Answers the fence, or 0 if
-- another holds the lease. The clock is this server's, because those of callers differ. The hash
-- stays when the lease has ended: a fence is never given twice.
local lease = p .. 'lease:' .. ARGV[2]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = call('HMGET', lease, 'holder', 'until')
local inforce = held[1] and tonumber(held[2]) > now
if inforce and held[1] ~= ARGV[3] then
  return 0
end
call('HSET', lease, 'holder', ARGV[3], 'until', string.format('%d', now + ARGV[4]))
return call('HINCRBY', lease, 'fence', inforce and 0 or 1)
