"""What wraps or helps any mixer: a guard, groups of domains, constants rescaled to a run's length."""
