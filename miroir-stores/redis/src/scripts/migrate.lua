-- Stands in front of migrations. ARGV[2]: the numbers that were applied when they were chosen, joined
-- by commas. ARGV[3]: now, in seconds since 1970. Answers whether nobody migrated meanwhile, in which
-- case what follows was done.
do
  local applied = call('HKEYS', p .. 'schema_versions')
  table.sort(applied, function(a, b) return tonumber(a) < tonumber(b) end)
  if table.concat(applied, ',') ~= ARGV[2] then
    return 0
  end
end
