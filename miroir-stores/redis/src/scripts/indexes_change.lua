-- From ARGV[2] on: name, expected version, version to be, record to be; an empty version means that
-- there is no entry, or is to be none. Answers 1, or 0 if a version was not the expected one and
-- nothing was changed. Versions are compared as text: 64 bits do not fit into a number here.
for position = 2, #ARGV, 4 do
  local version = call('HGET', p .. 'index:' .. ARGV[position], 'version')
  if (version or '') ~= ARGV[position + 1] then
    return 0
  end
end
for position = 2, #ARGV, 4 do
  local name, version, record = ARGV[position], ARGV[position + 2], ARGV[position + 3]
  if version ~= '' then
    call('HSET', p .. 'index:' .. name, 'version', version, 'record', record)
    call('ZADD', p .. 'indexes:_index', 0, name)
  else
    call('DEL', p .. 'index:' .. name)
    call('ZREM', p .. 'indexes:_index', name)
  end
end
return 1
