-- From ARGV[2] on: uid, row, whose index does not count, and record of each task.
for position = 2, #ARGV, 3 do
  local uid = tonumber(ARGV[position])
  local old = get(uid)
  if old then
    local new = parse(ARGV[position + 1])
    new.index = old.index
    call('HSET', key(uid), 'row', format(new), 'record', ARGV[position + 2])
    move(uid, old, new)
  end
end
return 0
