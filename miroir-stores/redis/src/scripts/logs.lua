-- In front of scripts about lists. `<log>:<key>`: the entries, oldest first. `<log>_list:<key>`: `last`,
-- the number of the newest one, and `bytes` of all.
local function names(log, key)
  return p .. log .. ':' .. key, p .. log .. '_list:' .. key
end
