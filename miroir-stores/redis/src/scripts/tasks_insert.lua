-- ARGV[2]: the row. ARGV[3]: the record. Answers the uid, or -1 if there is none left.
local next = p .. 'tasks:_next'
local uid = tonumber(call('GET', next) or '0')
if uid >= 4294967295 then
  return -1
end
call('SET', next, string.format('%d', uid + 1))
call('ZADD', p .. 'tasks:_index', uid, uid)
call('HSET', key(uid), 'row', ARGV[2], 'record', ARGV[3])
move(uid, nil, parse(ARGV[2]))
return uid
