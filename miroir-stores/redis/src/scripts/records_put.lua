-- ARGV[2]: table. ARGV[3]: key. ARGV[4]: record. ARGV[5]: the version that has to be there, 0 for none,
-- or nothing. ARGV[6]: how long it lives in milliseconds, or nothing. ARGV[7]: how many there may be, or
-- nothing. Answers its version, or 0 if another one was there.
local table_, key = ARGV[2], ARGV[3]
local old = call('GET', name(table_, key))
local version = old and split(old) or '0'
if ARGV[5] ~= '' and ARGV[5] ~= version then
  return 0
end
version = version + 1
local text = string.format('%d', version) .. ' ' .. ARGV[4]
if ARGV[6] ~= '' then
  call('SET', name(table_, key), text, 'PX', ARGV[6])
  call('ZADD', index(table_), string.format('%d', now + ARGV[6]), key)
else
  call('SET', name(table_, key), text)
  call('ZADD', index(table_), '+inf', key)
end
if ARGV[7] ~= '' then
  call('ZREMRANGEBYSCORE', index(table_), '-inf', now)
  local many = call('ZCARD', index(table_)) - ARGV[7]
  if many > 0 then
    local gone = 0
    for _, other in ipairs(call('ZRANGE', index(table_), '-inf', '(+inf', 'BYSCORE', 'LIMIT', 0, many + 1)) do
      if other ~= key and gone < many then
        call('DEL', name(table_, other))
        call('ZREM', index(table_), other)
        gone = gone + 1
      end
    end
  end
end
return version
