-- ARGV[1]: the query as JSON; see `Query` in tasks/list.rs. Answers how many tasks match, and then
-- the uids, or uid, index and record, of the first `wanted` ones from `from` on.
--
-- What status, kind and index allow are whole sorted sets in the order of uids: their sizes are the
-- total and their first members the page. With any other filter the narrowest of what the filters
-- allow is gone through, row by row; records are read for the page alone.
local q = cjson.decode(ARGV[1])

local function set(list)
  if not list then
    return nil
  end
  local all = {}
  for _, value in ipairs(list) do
    all[value] = true
  end
  return all
end

local statuses, kinds, indexes = set(q.statuses), set(q.kinds), set(q.indexes)
local uids, batches, cancelers = set(q.uids), set(q.batches), set(q.canceled_by)

-- The sorted sets that together hold what status, kind and index allow, and no task twice.
local function buckets()
  local found = {}
  local function add(list, before, after)
    for _, bucket in ipairs(call('SMEMBERS', list)) do
      local status, kind = string.match(bucket, '^(.-):(.*)$')
      if (not statuses or statuses[status]) and (not kinds or kinds[kind]) then
        found[#found + 1] = before .. bucket .. after
      end
    end
  end
  if q.indexes then
    for _, name in ipairs(q.indexes) do
      add(p .. 'tasks:_buckets:' .. name, p .. 'tasks:_of:', ':' .. name)
    end
  elseif statuses or kinds then
    add(p .. 'tasks:_buckets', p .. 'tasks:_by:', '')
  else
    found[1] = p .. 'tasks:_index'
  end
  return found
end

local function size(sets)
  local total = 0
  for _, place in ipairs(sets) do
    total = total + call('ZCARD', place)
  end
  return total
end

local function order(found)
  table.sort(found)
  if not q.reverse then
    local last = #found
    for position = 1, math.floor(last / 2) do
      local other = last + 1 - position
      found[position], found[other] = found[other], found[position]
    end
  end
end

-- The first `wanted` uids of sets that are ordered by uid.
local function walk(sets)
  local from = q.from or (q.reverse and '-inf' or '+inf')
  local found = {}
  for _, place in ipairs(sets) do
    local part
    if q.reverse then
      part = call('ZRANGE', place, from, '+inf', 'BYSCORE', 'LIMIT', 0, q.wanted)
    else
      part = call('ZRANGE', place, from, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, q.wanted)
    end
    for _, uid in ipairs(part) do
      found[#found + 1] = tonumber(uid)
    end
    -- Keeps memory at a few pages however many sets there are.
    if #sets > 1 and #found > 2 * q.wanted + 1000 then
      order(found)
      for position = #found, q.wanted + 1, -1 do
        found[position] = nil
      end
    end
  end
  if #sets > 1 then
    order(found)
  end
  return found
end

-- The range of a time axis, both ends exclusive; nil without bounds.
local function range(axis)
  local after, before = q['after_' .. axis], q['before_' .. axis]
  if not after and not before then
    return nil
  end
  return {
    axis = axis,
    after = after,
    before = before,
    place = p .. 'tasks:_' .. axis,
    min = after and '(' .. after .. '9999999999' or '-',
    max = before and '(' .. before .. '0000000000' or '+',
  }
end

-- The axes that have bounds.
local bounds = {}
for _, axis in ipairs({ 'enqueued', 'started', 'finished' }) do
  local within = range(axis)
  if within then
    bounds[#bounds + 1] = within
  end
end

-- Whether a time range is all there is to match.
local timed = #bounds == 1 and not (statuses or kinds or indexes or uids or batches or cancelers)

local function matches(uid, t)
  if statuses and not statuses[t.status] or kinds and not kinds[t.kind] then
    return false
  end
  if indexes and not (t.index ~= '' and indexes[string.sub(t.index, 2)]) then
    return false
  end
  local by = tonumber(t.by)
  if uids and not uids[uid] or cancelers and not (by and cancelers[by]) then
    return false
  end
  if batches and not (t.started ~= '-' and batches[by or uid]) then
    return false
  end
  for _, b in ipairs(bounds) do
    local at = t[b.axis]
    if at == '-' or b.after and at <= b.after or b.before and at >= b.before then
      return false
    end
  end
  return true
end

-- Every way to candidates, each with how many there are at most.
local function sources()
  local all = {}
  local function add(count, list)
    all[#all + 1] = { count = count, list = list }
  end
  local function members(sets, out)
    for _, place in ipairs(sets) do
      for _, uid in ipairs(call('ZRANGE', place, 0, -1)) do
        out[#out + 1] = tonumber(uid)
      end
    end
    return out
  end
  local function canceled(list)
    local sets = {}
    for _, by in ipairs(list) do
      sets[#sets + 1] = p .. 'tasks:_canceled_by:' .. string.format('%d', by)
    end
    return sets
  end

  local sets = buckets()
  add(size(sets), function() return members(sets, {}) end)
  if q.uids then
    add(#q.uids, function() return q.uids end)
  end
  if q.canceled_by then
    local by = canceled(q.canceled_by)
    add(size(by), function() return members(by, {}) end)
  end
  if q.batches then
    -- A batch is a task and what it canceled. One that was canceled itself is not its own.
    local by = canceled(q.batches)
    add(size(by) + #q.batches, function()
      local out = {}
      for uid in pairs(batches) do
        out[#out + 1] = uid
      end
      for _, uid in ipairs(members(by, {})) do
        if not batches[uid] then
          out[#out + 1] = uid
        end
      end
      return out
    end)
  end
  for _, b in ipairs(bounds) do
    add(call('ZLEXCOUNT', b.place, b.min, b.max), function()
      local out = {}
      for position, at in ipairs(call('ZRANGE', b.place, b.min, b.max, 'BYLEX')) do
        out[position] = tonumber(string.sub(at, 23))
      end
      return out
    end)
  end
  return all
end

-- All uids that match, in order.
local function filtered()
  local narrowest
  for _, source in ipairs(sources()) do
    if not narrowest or source.count <= narrowest.count then
      narrowest = source
    end
  end
  local found = {}
  -- A time range has no more tasks than there are, so it was chosen.
  if timed then
    found = narrowest.list()
    order(found)
    return found
  end
  for _, uid in ipairs(narrowest.list()) do
    local t = get(uid)
    if t and matches(uid, t) then
      found[#found + 1] = uid
    end
  end
  order(found)
  return found
end

local total, page
if q.uids or q.batches or q.canceled_by or #bounds > 0 then
  local found = filtered()
  total, page = #found, {}
  for _, uid in ipairs(found) do
    local skipped = q.from and (q.reverse and uid < q.from or not q.reverse and uid > q.from)
    if not skipped and #page < q.wanted then
      page[#page + 1] = uid
    end
  end
else
  local sets = buckets()
  total, page = size(sets), walk(sets)
end

local out = { total }
for position = 1, math.min(#page, q.wanted) do
  -- The last one only says where the next page begins.
  if q.records and position < q.wanted then
    show(out, page[position])
  else
    out[#out + 1] = page[position]
  end
end
return out
