-- ARGV[2]: uids as JSON, ascending and none twice. Forgets those that are terminal and answers their
-- uids, indexes and records.
local out = {}
for _, uid in ipairs(cjson.decode(ARGV[2])) do
  local t = get(uid)
  if t and TERMINAL[t.status] then
    show(out, uid)
    forget(uid, t)
  end
end
return out
