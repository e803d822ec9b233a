-- Answers the new epoch.
return call('INCR', epoch)
