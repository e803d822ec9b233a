-- Stands in front of every script. KEYS[1] is the prefix of all keys: which keys a call touches is
-- known only once some were read, so one primary holds all of them.
local call = redis.call
local p = KEYS[1]
