-- ARGV[1]: log. ARGV[2]: key. ARGV[3]: the number after which to begin, or nothing for the newest ones,
-- newest first. ARGV[4]: how many. Answers number and entry of each.
local list, meta = names(ARGV[1], ARGV[2])
local last, entries = tonumber(call('HGET', meta, 'last') or '0'), call('LLEN', list)
local many = math.min(tonumber(ARGV[4]), entries)
local found = {}
if many < 1 then
  return found
end
if ARGV[3] == '' then
  local newest = call('LRANGE', list, -many, -1)
  for at = #newest, 1, -1 do
    found[#found + 1] = { string.format('%d', last - #newest + at), newest[at] }
  end
  return found
end
local first = last - entries + 1
local from = math.max(tonumber(ARGV[3]) + 1 - first, 0)
for at, entry in ipairs(call('LRANGE', list, from, from + many - 1)) do
  found[at] = { string.format('%d', first + from + at - 1), entry }
end
return found
