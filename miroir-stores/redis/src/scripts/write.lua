-- Stands in front of every script that writes. ARGV[1] is the instant until which the caller waits,
-- in milliseconds since 1970 on the clock of this server. A call that comes later was given up and
-- must not undo what was done instead. What only a leader may do has the fence of its lease after
-- the instant and a colon: a leader that somebody else has followed changes nothing.
do
  local now = call('TIME')
  local deadline, fence = string.match(ARGV[1], '^(%d+):?(%d*)$')
  if now[1] * 1000 + math.floor(now[2] / 1000) > tonumber(deadline) then
    return redis.error_reply('MIROIRLATE the caller no longer waits')
  end
  if fence ~= '' and tonumber(call('HGET', p .. 'lease:leader', 'fence') or '0') > tonumber(fence) then
    return redis.error_reply('MIROIRDEPOSED another pod leads by now')
  end
end
