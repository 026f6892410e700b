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

// Items [meta, ...] with what their tasks of a stage are given at the end, by the group that their row of the design is of:
// a change in one group's settings re-runs its tasks, no other's.  ``groups`` is the value [id -> group].
def with_section(items, groups, settings, stage) {
    return items.combine(groups.map { all -> [all] }).combine(settings.map { all -> [all[stage]] }).map { item ->
        def group = item[-2][item[0].id] ?: 'plain'
        if (!item[-1].containsKey(group)) {
            error("${item[0].id}: group '${group}' of the design; ${item[-1].keySet().join(', ')} of design.groups were expected")
        }
        item.dropRight(2) + [json(item[-1][group])]
    }
}
