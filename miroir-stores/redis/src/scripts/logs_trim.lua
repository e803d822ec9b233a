-- ARGV[2]: log. ARGV[3]: key. ARGV[4]: the last number that goes, or nothing for all. Answers how many
-- there were.
local list, meta = names(ARGV[2], ARGV[3])
local last, entries = tonumber(call('HGET', meta, 'last') or '0'), call('LLEN', list)
local many = entries
if ARGV[4] ~= '' then
  many = math.min(math.max(tonumber(ARGV[4]) - (last - entries), 0), entries)
end
for _ = 1, many do
  call('HINCRBY', meta, 'bytes', -#call('LPOP', list))
end
return many
