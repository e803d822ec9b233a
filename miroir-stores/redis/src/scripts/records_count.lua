-- ARGV[1]: table. Answers how many records it has.
return call('ZCOUNT', index(ARGV[1]), '(' .. now, '+inf')
