-- ARGV[2]: `seed` inserts only if there is no key at all. From ARGV[3] on: uid and record of keys, of
-- which a single one is inserted if its uid is free. Answers whether they were.
local index = p .. 'api_keys:_index'
if ARGV[2] == 'seed' then
  if call('EXISTS', index) == 1 then
    return 0
  end
elseif call('EXISTS', p .. 'api_key:' .. ARGV[3]) == 1 then
  return 0
end
for position = 3, #ARGV, 2 do
  call('ZADD', index, call('INCR', p .. 'api_keys:_next'), ARGV[position])
  call('HSET', p .. 'api_key:' .. ARGV[position], 'record', ARGV[position + 1])
end
return 1
