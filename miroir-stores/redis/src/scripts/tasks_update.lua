-- ARGV[2]: the uid. ARGV[3]: the row, whose index does not count. ARGV[4]: the record.
local uid = tonumber(ARGV[2])
local old = get(uid)
if old then
  local new = parse(ARGV[3])
  new.index = old.index
  call('HSET', key(uid), 'row', format(new), 'record', ARGV[4])
  move(uid, old, new)
end
return 0
