-- ARGV[1]: log. ARGV[2]: key. Answers entries and bytes.
local list, meta = names(ARGV[1], ARGV[2])
return { call('LLEN', list), tonumber(call('HGET', meta, 'bytes') or '0') }
