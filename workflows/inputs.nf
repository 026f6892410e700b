// A run's inputs: from parameters to what CHECK is asked, and from its answer to what the workflow takes.

include { json                                       } from './json'
include { stage_names                                } from './stages'
include { checked_file; earlier_listing; taken_of    } from './results'

// The file that a cell of an input table names: an entry of the Protein Data Bank (pdb:1abc; Nextflow fetches and stages it
// like any remote file), an address, or a path, relative to ``folder`` where it does not start at the root.
def input_file(text, folder) {
    def entry = text =~ /(?i)pdb:(pdb_0000)?([1-9][a-z0-9]{3})/
    if (entry.matches()) {
        return checked_file(params.pdb_address.toString().replace('{id}', entry.group(2).toLowerCase()))
    }
    return checked_file(text.startsWith('/') || text.contains('://') ? text : "${folder}/${text}")
}

// Rows of an input table: of a CSV (files relative to it), of a glob (ids from the files' names), or of ids pdb:1abc,pdb:2xyz.
def input_rows(source, file_columns) {
    if (!source) {
        return []
    }
    if (source.toString().toLowerCase().startsWith('pdb:')) {
        return source.toString().tokenize(', ').collect { text ->
            def one = input_file(text, launchDir)
            [id: text.replaceFirst(/(?i)^pdb:/, ''), path: text, files: one.exists() ? [path: one] : [:]]
        }
    }
    def table = input_table(source)
    if (!table) {
        // With links to nothing and folders, which CHECK refuses by name: a glob alone leaves them out.
        def found = files(source.toString(), type: 'any', followLinks: false).toSorted { one -> one.name }
        return found
            ? found.collect { one ->
                def id = one.name.replaceFirst(/(?i)\.(cif|mmcif|bcif|pdb|ent|mrc|map|ccp4|rec)(\.gz|\.bz2|\.xz)?$/, '')
                def instead = !checked_file(one).exists() ? 'a link to nothing' : one.isDirectory() ? 'a folder' : null
                [id: id, path: one.toString(), instead: instead, files: instead ? [:] : [path: one]]
            }
            : [[id: 'none', path: source.toString(), files: [:]]]
    }
    return table.splitCsv(header: true, strip: true, quote: '"').collect { row ->
        def named = file_columns.findAll { column -> row[column] }.collectEntries { column -> [column, input_file(row[column].toString(), table.parent)] }
        row + [files: named.findAll { _column, one -> one.exists() }]
    }
}

// The CSV that a source names, null where it is a glob, ids, or nothing that is there.
def input_table(source) {
    return source && source.toString().toLowerCase().endsWith('.csv') && file(source.toString(), glob: false).isFile() ? checked_file(source) : null
}

// What the user gave: rows of the tables, the model and the design table or null.  With a model no structures are read:
// a preset that names some can pick without them, and without a network.
def given_inputs() {
    def sources = [templates: params.model ? null : params.templates, distractors: params.model ? null : params.distractors, tomograms: params.tomograms]
    return [
        tables: sources.collectEntries { name, source -> [name, input_table(source)] }.findAll { _name, table -> table },
        templates: params.model ? [] : input_rows(params.templates, ['path']),
        distractors: params.model ? [] : input_rows(params.distractors, ['path']),
        tomograms: input_rows(params.tomograms, ['path', 'annotations', 'mask']),
        model: params.model ? checked_file(params.model, checkIfExists: true) : null,
        design_table: params.design_table ? checked_file(params.design_table) : null,
    ]
}

// The files of one column, in the rows' order, and the rows with the places where they will be staged.
def column_files(rows, column) {
    return rows.findAll { row -> row.files[column] }.collect { row -> row.files[column] }
}

def staged_rows(rows, folders) {
    def seen = folders.collectEntries { column, _folder -> [column, 0] }
    return rows.collect { row ->
        def plain = row.findAll { key, _value -> key != 'files' }
        folders.each { column, folder ->
            if (row.files[column]) {
                seen[column] = seen[column] + 1
                plain[column == 'path' ? 'file' : "${column}_file".toString()] = "${folder}/${seen[column]}/${row.files[column].name}".toString()
            }
        }
        plain
    }
}

// The presets among the run's profiles: name -> YAML.
def joined_presets() {
    return workflow.profile.tokenize(',').collectEntries { name -> [name, file("${projectDir}/presets/${name}.yml")] }
        .findAll { _name, one -> one.exists() }
        .collectEntries { name, one -> [name, one.getText('UTF-8')] }
}

// What CHECK is asked, one line of JSON.
def request(given, plan) {
    def staged = plan.earlier.findAll { one -> one.file.exists() }.withIndex().collectEntries { one, index ->
        [one.path, "earlier/${index + 1}/${one.file.name}".toString()]
    }
    return json([
        params: params.findAll { name, _value -> name != 'help' },
        presets: joined_presets(),
        tables: given.tables.keySet().withIndex().collectEntries { name, index -> [name, "tables/${index + 1}/${given.tables[name].name}".toString()] },
        earlier: plan.from ? [
            exists: plan.from.isDirectory(),
            index: plan.earlier_index ? 'earlier_index/index.json' : '',
            files: plan.earlier.collect { one -> [path: one.path, file: staged[one.path]] },
        ] : null,
        templates: staged_rows(given.templates, [path: 'templates']),
        distractors: staged_rows(given.distractors, [path: 'distractors']),
        tomograms: staged_rows(given.tomograms, [path: 'tomograms', annotations: 'annotations', mask: 'masks']),
        design_table_file: given.design_table ? "design/${given.design_table.name}".toString() : '',
        model_file: given.model ? "model/${given.model.name}".toString() : '',
    ])
}

// CHECK's answer of templates or distractors, each with its file: [meta, structure or map].
def checked_structures(answers, rows) {
    return [answers, rows].transpose().collect { meta, row -> [meta, row.files.path] }
}

// CHECK's answer of the tomograms: [meta, tomogram, annotations or [], mask or []].
def checked_tomograms(answers, rows) {
    return [answers, rows].transpose().collect { meta, row -> [meta, row.files.path, row.files.annotations ?: [], row.files.mask ?: []] }
}

// What the workflow has to know before anything runs: runs (stage -> boolean), labels (of FINETUNE), from (folder of an earlier
// run's results or null), takes (stage -> endings of the files read from there), earlier (those files), earlier_index (or null),
// model, design_table (file or null), about (what only Nextflow knows, for the crate).
def plan_of(given, image_sha256) {
    def start = params.model && params.start_at == 'flex' ? 'segment' : params.start_at
    def first = stage_names().indexOf(start)
    def last = stage_names().indexOf(params.stop_after)
    def asked = stage_names().withIndex().collectEntries { stage, index -> [stage, index >= first && index <= last] }
    def runs = asked + [finetune: asked.finetune && start == 'finetune', match: asked.match && params.match.run]
    def from = params.from_results ? checked_file(params.from_results) : null
    def takes = taken_of(from, runs, given, params.finetune.labels)
    def index = from ? from.resolve('index.json') : null
    return [
        runs: runs,
        labels: params.finetune.labels,
        from: from,
        takes: takes,
        earlier: from ? earlier_listing(from, takes) : [],
        earlier_index: index?.exists() ? index : null,
        model: given.model,
        design_table: given.design_table,
        about: [nextflow: nextflow.version.toString(), revision: workflow.commitId ?: git_revision(), image_sha256: image_sha256],
    ]
}

// The clone's revision, with -dirty where its files were changed; null outside a clone.
def git_revision() {
    try {
        def asked = ['git', '-C', projectDir.toString(), 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*'].execute()
        def revision = asked.text.trim()
        return asked.waitFor() == 0 ? revision : null
    }
    catch (IOException _no_git) {
        return null
    }
}

// What `nextflow run . --help` prints.
def help_text() {
    return """\
        Template Learning ${workflow.manifest.version}: from structures of a molecule to its picks in tomograms.

        The demo                            nextflow run . -profile demo
        Your structures and tomograms       nextflow run . --templates 'structures/*.cif' --distractors 'distractors/*.cif' --tomograms tomograms.csv
        Entries of the Protein Data Bank    nextflow run . --templates pdb:2pyo,pdb:7kbe ...
        Your tomograms, with a model        nextflow run . --model models/nucleosome_8A.keras -profile workstation --tomograms tomograms.csv
        A model, taught your annotations    nextflow run . --start_at finetune --model models/nucleosome_8A.keras -profile workstation --tomograms tomograms.csv
        Go on after a stop or a change      the same call with -resume
        Start again from a stage            nextflow run . --start_at train --from_results results --outdir retrained ...
        A part of the pipeline              nextflow run . --stop_after label ...   (stages: ${stage_names().join(', ')})

        Profiles, joined by commas: where tasks run (slurm, awsbatch, google_batch, k8s), in which containers (apptainer, docker, podman),
        gpu, and settings (ribosome, nucleosome, fas, nucleosome_8A, nucleosome_8A_treated, workstation, deepfinder, demo, ablation): -profile slurm,apptainer,ribosome,gpu

        Parameters, their defaults and bounds: docs/reference/parameters.md.  What is written into --outdir: docs/reference/outputs.md.
        """.stripIndent()
}
