-- Stands in front of every script that writes. ARGV[1] is the instant until which the caller waits,
-- in milliseconds since 1970 on the clock of this server. A call that comes later was given up and
-- must not undo what was done instead. What only a leader may do has the fence of its lease after
-- the instant and a colon, and its holder's name after another: a leader that somebody else has followed
-- changes nothing, also where this server forgot the last lease and gave its fence again.
do
  local now = call('TIME')
  local deadline, fence, holder = string.match(ARGV[1], '^(%d+):?(%d*):?(.*)$')
  if now[1] * 1000 + math.floor(now[2] / 1000) > tonumber(deadline) then
    return redis.error_reply('MIROIRLATE the caller no longer waits')
  end
  if fence ~= '' then
    local lease = call('HMGET', p .. 'lease:leader', 'fence', 'holder')
    local newest = tonumber(lease[1] or '0')
    local anothers = holder ~= '' and lease[2] ~= holder
    if newest > tonumber(fence) or (newest == tonumber(fence) and anothers) then
      return redis.error_reply('MIROIRDEPOSED another pod leads by now')
    end
  end
end
