-- ARGV[2]: table. ARGV[3]: key. ARGV[4]: the version it has to have, or nothing. Answers whether it was
-- there.
local text = call('GET', name(ARGV[2], ARGV[3]))
if not text or (ARGV[4] ~= '' and split(text) ~= ARGV[4]) then
  return 0
end
call('DEL', name(ARGV[2], ARGV[3]))
call('ZREM', index(ARGV[2]), ARGV[3])
return 1
