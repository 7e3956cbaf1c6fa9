package proxy

// EngineUnderTest is the engine that the tests run on.
func EngineUnderTest() string { return testEngine() }

// SetHook has hook called for each admitted request.
func SetHook(o *Options, hook func()) { o.hook = hook }
