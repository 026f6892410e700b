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
    return file.name.replaceFirst(/\.(placed\.csv|tilts\.mrc|tlt|labels\.mrc|instances\.mrc|particles\.csv|segmentation\.mrc|log_odds\.mrc|probability\.mrc|picks\.csv|scores\.mrc|mrc)(\.json)?$/, '')
}

// What a run reads of an earlier one: stage -> the endings of its files, for each stage that there is something of.
// ``runs`` says which stages run, ``given`` has the model and the design table or null, ``labels`` are those of FINETUNE.
def taken_of(from, runs, given, labels) {
    def trains = runs.train || runs.calibrate
    def shown = trains || runs.segment || runs.report
    def tilts = runs.reconstruct ? ['.tilts.mrc', '.tilts.mrc.json', '.tlt'] : runs.match ? ['.tilts.mrc.json'] : []
    def wanted = [
        flex: runs.volume ? ['.cif.gz'] : [],
        volume: runs.tetris || runs.simulate || runs.label || runs.match || (runs.finetune && labels == 'shape') ? [''] : [],
        design: given.design_table ? [] : ['design.csv'],
        tetris: runs.simulate || runs.label ? ['.placed.csv', '.placed.csv.json'] : [],
        simulate: tilts,
        reconstruct: shown || runs.label || runs.match ? ['.mrc'] : [],
        label: shown || runs.evaluate ? ['.labels.mrc', '.instances.mrc', '.particles.csv'] : [],
        train: runs.calibrate ? ['trained.keras'] : [],
        calibrate: (runs.segment || runs.finetune) && !given.model ? ['model.keras'] : [],
        segment: runs.cluster || runs.export || runs.match ? ['.segmentation.mrc', '.log_odds.mrc', '.probability.mrc', '.segmentation.mrc.json'] : [],
        cluster: runs.export || runs.evaluate ? ['.picks.csv', '.picks.csv.json'] : [],
        match: runs.evaluate ? ['.picks.csv', '.picks.csv.json'] : [],
    ]
    return wanted.collectEntries { stage, endings -> [stage, from && !runs[stage] && listed(from, stage, endings) ? endings : []] }
}

// The files of a stage, links to nothing included, hidden ones not; an ending that begins with no point is a whole name.
def listed(from, stage, endings) {
    def folder = from.resolve(stage)
    def all = folder.isDirectory() ? folder.listFiles().findAll { one -> !one.name.startsWith('.') } : []
    return all.findAll { one -> endings.any { ending -> ending.startsWith('.') ? one.name.endsWith(ending) : ending in ['', one.name] } }
}

// The files that a run takes from an earlier one, for CHECK: [[path below from_results, file], ...], sorted.
def earlier_listing(from, takes) {
    return takes.collectMany { stage, endings ->
        def found = listed(from, stage, endings)
        def files = stage == 'volume' ? found.findAll { one -> one.isDirectory() }.collectMany { one -> checked_file(one).listFiles().toList() } : found
        files.collect { one ->
            if (!(stage in ['volume', 'design', 'train', 'calibrate'])) {
                checked_id(stage == 'flex' ? one.name - '.cif.gz' : id_of(one))
            }
            [path: from.relativize(checked_file(one)).toString(), file: one]
        }
    }.toSorted { a, b -> a.path <=> b.path }
}

// What an earlier run published, as [meta, file of the first ending, file of the second, ...].
def earlier_files(from, stage, endings) {
    return Channel.fromPath("${from}/${stage}/*${endings[0]}", checkIfExists: true).map { file ->
        def id = checked_id(id_of(checked_file(file)))
        [[id: id]] + endings.collect { ending ->
            def one = file.resolveSibling("${id}${ending}")
            // SEGMENT of version 0.1.0 wrote probabilities, which CLUSTER takes too.
            ending == '.log_odds.mrc' && !one.exists() ? file.resolveSibling("${id}.probability.mrc") : one
        }
    }
}

// Items with their id in place of their meta map, to be joined by.
def by_id(items) {
    return items.map { item -> [item[0].id] + item.drop(1) }
}

// The files among what a topic or a channel of tuples brings.
def files_among(items) {
    return items.flatten().filter { one -> one instanceof Path }
}

// Where a file or folder is published below outdir.  Tasks write into their folder as it is published; what an earlier run
// published lies in its stage's folder.
def published_name(one) {
    def own = one.toString() =~ /^.*\/[0-9a-f]{2}\/[0-9a-f]{30}\/(.+)$/
    return own.matches() ? own.group(1) : "${one.parent.name}/${one.name}".toString()
}

def stage_of(one) {
    return published_name(one).tokenize('/')[0]
}
