-- ARGV[2]: forget terminal tasks that finished before this instant, ARGV[3]: of those after this
-- member of `tasks:_finished`, ARGV[4]: looking at this many. Answers how many were forgotten, how
-- many were looked at, and the last member looked at.
local after = ARGV[3] == '' and '-' or '(' .. ARGV[3]
local before = '(' .. ARGV[2] .. '0000000000'
local members =
  call('ZRANGE', p .. 'tasks:_finished', after, before, 'BYLEX', 'LIMIT', 0, ARGV[4])
local forgotten = 0
for _, member in ipairs(members) do
  local uid = tonumber(string.sub(member, 23))
  local t = get(uid)
  if t and TERMINAL[t.status] then
    forget(uid, t)
    forgotten = forgotten + 1
  end
end
return { forgotten, #members, members[#members] or '' }
