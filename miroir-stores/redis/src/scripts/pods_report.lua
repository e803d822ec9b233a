-- ARGV[2]: name. ARGV[3]: report. ARGV[4]: the epoch it has seen, or nothing. ARGV[5]: how long its
-- word counts, in milliseconds. A pod that has seen neither the newest epoch nor the one that was
-- answered to its last report, while its word counts, keeps what is left of that.
local FORGOTTEN = 3600000
local word = tonumber(call('HGET', ends, ARGV[2]) or '0')
local newest = call('GET', epoch) or '0'
local before = string.match(call('HGET', told, ARGV[2]) or newest, '^%d+')
-- Who had a word all the time is waited for with what was told to nobody yet.
local needed = word > now and before or newest
local accepted = ARGV[4] ~= '' and tonumber(ARGV[4]) >= tonumber(needed)
if accepted then
  word = now + ARGV[5]
end
call('HSET', told, ARGV[2], newest .. ' ' .. string.format('%d', now))
local all = call('HGETALL', told)
for at = 1, #all, 2 do
  if tonumber(string.match(all[at + 1], ' (%d+)$')) < now - FORGOTTEN then
    call('HDEL', told, all[at])
  end
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
return roster(accepted)
