// JSON between the pipeline and its stages.

// The content of a JSON file in plain maps and lists.  Those of JsonSlurper fill themselves when they are first read,
// which two operators that read one at the same time may see half done: an id is null then.
def read_json(file) {
    return plain(new groovy.json.JsonSlurper().parse(file))
}

def plain(value) {
    return value instanceof Map ? value.collectEntries { key, one -> [key, plain(one)] }
        : value instanceof List ? value.collect { one -> plain(one) }
        : value
}

// One line.
def json(content) {
    return groovy.json.JsonOutput.toJson(content)
}

// What the tasks of one stage are given, as one line: a change in its settings re-runs the stage and what depends on it, no other.
def section(settings, stage) {
    return settings.map { all -> json(all[stage]) }
}
