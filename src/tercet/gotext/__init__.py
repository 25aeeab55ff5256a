"""Go's text formats, as etcd's flags and command output use them: durations, strconv literals, encoding/json."""
