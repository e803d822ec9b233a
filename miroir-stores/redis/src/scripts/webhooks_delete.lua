-- ARGV[2]: uuid. Answers whether there was such a webhook.
return call('HDEL', p .. 'webhooks', ARGV[2])
