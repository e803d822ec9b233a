-- ARGV[2]: name. ARGV[3]: report. ARGV[4]: the epoch it has seen, or nothing. ARGV[5]: how long its
-- word counts, in milliseconds. A pod that has not seen the newest epoch keeps what is left of its
-- last word.
local word = tonumber(call('HGET', ends, ARGV[2]) or '0')
if ARGV[4] == (call('GET', epoch) or '0') then
  word = now + ARGV[5]
end
for _, name in ipairs(call('HKEYS', ends)) do
  if tonumber(call('HGET', ends, name)) <= now then
    call('HDEL', ends, name)
    call('HDEL', reports, name)
  end
end
if word > now then
  call('HSET', reports, ARGV[2], ARGV[3])
  call('HSET', ends, ARGV[2], string.format('%d', word))
end
return roster()
