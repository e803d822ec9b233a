-- Stands in front of every script that writes. ARGV[1] is the instant until which the caller waits,
-- in milliseconds since 1970 on the clock of this server. A call that comes later was given up and
-- must not undo what was done instead.
do
  local now = call('TIME')
  if now[1] * 1000 + math.floor(now[2] / 1000) > tonumber(ARGV[1]) then
    return redis.error_reply('MIROIRLATE the caller no longer waits')
  end
end
