-- ARGV[2]: index. ARGV[3]: node. ARGV[4]: version, which replaces a lower one. Versions are decimal
-- text without zeros in front: 64 bits do not fit into a number here.
local versions = p .. 'node_settings_version:' .. ARGV[2]
local old, new = call('HGET', versions, ARGV[3]), ARGV[4]
if not old or #old < #new or #old == #new and old < new then
  call('HSET', versions, ARGV[3], new)
end
return 0
