-- From ARGV[2] on: row and record of each task. Answers the first uid, or -1 if there are not enough left.
local next = p .. 'tasks:_next'
local first = tonumber(call('GET', next) or '0')
local count = (#ARGV - 1) / 2
if first + count > 4294967295 then
  return -1
end
call('SET', next, string.format('%d', first + count))
for number = 0, count - 1 do
  local uid = first + number
  local row = ARGV[2 + 2 * number]
  call('ZADD', p .. 'tasks:_index', uid, uid)
  call('HSET', key(uid), 'row', row, 'record', ARGV[3 + 2 * number])
  move(uid, nil, parse(row))
end
return first
