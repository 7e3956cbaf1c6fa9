package proxy

// SetHook has hook called for each admitted request.
func SetHook(o *Options, hook func()) { o.hook = hook }
