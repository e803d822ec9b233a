-- ARGV[2] and ARGV[3]: the names. ARGV[4]: tasks before this uid. ARGV[5]: the kind of tasks that
-- name indexes in their record. From ARGV[6] on: uid, record as it was read and record as it is to
-- be, for every task of that kind before the uid. Answers 1, or 0 if these are not all, or not as
-- they were read.
local first, second, before = ARGV[2], ARGV[3], '(' .. ARGV[4]

local naming = 0
for _, bucket in ipairs(call('SMEMBERS', p .. 'tasks:_buckets')) do
  if string.match(bucket, ':(.*)$') == ARGV[5] then
    naming = naming + call('ZCOUNT', p .. 'tasks:_by:' .. bucket, '-inf', before)
  end
end
if naming * 3 ~= #ARGV - 5 then
  return 0
end
for position = 6, #ARGV, 3 do
  if call('HGET', key(tonumber(ARGV[position])), 'record') ~= ARGV[position + 1] then
    return 0
  end
end

for position = 6, #ARGV, 3 do
  call('HSET', key(tonumber(ARGV[position])), 'record', ARGV[position + 2])
end

local function about(name)
  local found = {}
  for _, bucket in ipairs(call('SMEMBERS', p .. 'tasks:_buckets:' .. name)) do
    local place = p .. 'tasks:_of:' .. bucket .. ':' .. name
    for _, uid in ipairs(call('ZRANGE', place, '-inf', before, 'BYSCORE')) do
      found[#found + 1] = tonumber(uid)
    end
  end
  return found
end

local function rename(uids, name)
  for _, uid in ipairs(uids) do
    local old, new = get(uid), get(uid)
    new.index = '=' .. name
    call('HSET', key(uid), 'row', format(new))
    move(uid, old, new)
  end
end

-- Both are looked up before either is renamed.
local firsts, seconds = about(first), about(second)
rename(firsts, second)
rename(seconds, first)
return 1
