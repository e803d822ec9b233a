-- The keys of every table come into being with their first row. What there has to be from the
-- beginning is a name of this store, by which a connection that was made anew recognises it.
-- A migration that was released is never edited: write the next one.
call('SET', p .. 'store_id', ARGV[4], 'NX')
