// Checked ids and files, files that an earlier run published, and how published files are called.
// No file with includes of its own may be included twice: the strict parser would define what it includes again.

// Ids and files stand in the tasks' scripts.  CHECK looks at the ids of a run's own inputs; this at those of earlier results.
def checked_id(id) {
    return id ==~ /[A-Za-z0-9][A-Za-z0-9_.-]{0,63}/ && !id.contains('..') ? id
        : error("id '${id}': only letters, digits, '_', '-' and '.' are allowed (at most 64, starting with a letter or digit, no '..')")
}

// Nextflow quotes the files of a task, save `$` and line breaks; what a name of ours may not hold either could end a quotation.
def checked_file(options = [:], source) {
    def one = file([glob: false] + options, source)
    if (one.toString() =~ /[\x00-\x1f\x7f$]/ || one.name =~ /['"`\\;&|<>]/) {
        error("file '${one}': control characters and \$ are not allowed in a path, nor quotes and any of \\ ; & | < > in a file's name")
    }
    return one
}

// The part of a file's name before the first of the endings that stages give their files.
def id_of(file) {
    return file.name.replaceFirst(/\.(placed\.csv|tilts\.mrc|tlt|labels\.mrc|instances\.mrc|particles\.csv|segmentation\.mrc|log_odds\.mrc|picks\.csv|scores\.mrc|mrc)(\.json)?$/, '')
}

// What an earlier run published, as [meta, file of the first ending, file of the second, ...].
def earlier_files(from, stage, endings) {
    return Channel.fromPath("${from}/${stage}/*${endings[0]}", checkIfExists: true).map { file ->
        def id = checked_id(id_of(checked_file(file)))
        [[id: id]] + endings.collect { ending -> file.resolveSibling("${id}${ending}") }
    }
}

// Whether there is an earlier run with results of a stage.
def has_earlier(from, stage) {
    return from && file("${from}/${stage}").exists()
}

// Items with their id in place of their meta map, to be joined by.
def by_id(items) {
    return items.map { item -> [item[0].id] + item.drop(1) }
}

// The files among what a topic or a channel of tuples brings.
def files_among(items) {
    return items.flatten().filter { one -> one instanceof Path }
}

// Where a file or folder of a task, or of earlier results, is published below outdir: a module writes into a folder of its stage's word.
def published_name(one) {
    return "${one.parent.name}/${one.name}".toString()
}

def stage_of(one) {
    return one.parent.name
}

// The published names of a file, or of all files below a folder.
def published_names(one, name = published_name(one)) {
    return one.isDirectory() ? one.listFiles().collectMany { inner -> published_names(inner, "${name}/${inner.name}".toString()) } : [name]
}
