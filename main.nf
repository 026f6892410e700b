#!/usr/bin/env nextflow
// Template Learning: from structures of a molecule to its picks in tomograms.  `nextflow run . --help` lists the calls.

include { read_json; json                 } from './workflows/json'
include { verified_images                 } from './workflows/images'
include { CHECK                           } from './modules/check/main'
include { TEMPLATE_LEARNING; checked_file } from './workflows/template_learning'

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
    if (!source.toString().endsWith('.csv')) {
        def found = files(source.toString()).toSorted { one -> one.name }
        return found
            ? found.collect { one -> [id: one.name.replaceFirst(/(?i)\.(cif|mmcif|bcif|pdb|ent|mrc|map|ccp4|rec)(\.gz|\.bz2|\.xz)?$/, ''), path: one.toString(), files: [path: checked_file(one)]] }
            : [[id: 'none', path: source.toString(), files: [:]]]
    }
    def table = file(source.toString())
    if (!table.exists()) {
        return [[id: 'none', path: source.toString(), files: [:]]]
    }
    return table.splitCsv(header: true, strip: true, quote: '"').collect { row ->
        def named = file_columns.findAll { column -> row[column] }.collectEntries { column -> [column, input_file(row[column].toString(), table.parent)] }
        row + [files: named.findAll { _column, one -> one.exists() }]
    }
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

workflow {
    main:
    def image_sha256 = verified_images(params)
    def stages = ['flex', 'volume', 'design', 'tetris', 'simulate', 'reconstruct', 'label', 'train', 'calibrate', 'finetune', 'segment', 'cluster', 'match', 'export', 'evaluate', 'report']
    def template_rows = input_rows(params.templates, ['path'])
    def distractor_rows = input_rows(params.distractors, ['path'])
    def tomogram_rows = input_rows(params.tomograms, ['path', 'annotations', 'mask'])
    def model = params.model ? checked_file(params.model, checkIfExists: true) : null
    def design_table = params.design_table ? checked_file(params.design_table) : null

    def request = json([
        params: params,
        templates: staged_rows(template_rows, [path: 'templates']),
        distractors: staged_rows(distractor_rows, [path: 'distractors']),
        tomograms: staged_rows(tomogram_rows, [path: 'tomograms', annotations: 'annotations', mask: 'masks']),
        design_table_file: design_table ? "design/${design_table.name}".toString() : '',
        model_file: model ? "model/${model.name}".toString() : '',
    ])
    CHECK(request, column_files(template_rows, 'path'), column_files(distractor_rows, 'path'), column_files(tomogram_rows, 'path'),
        column_files(tomogram_rows, 'annotations'), column_files(tomogram_rows, 'mask'), design_table?.exists() ? [design_table] : [], model ? [model] : [])

    // Nothing below starts before CHECK has passed: ids and classes come from its answer.
    def answer = CHECK.out.inputs.map { file -> read_json(file) }
    def settings = CHECK.out.settings.map { file -> read_json(file) }
    def stage_settings = CHECK.out.stage_settings.map { file -> read_json(file) }
    def start = params.model && params.start_at == 'flex' ? 'segment' : params.start_at
    def first = stages.indexOf(start)
    def last = stages.indexOf(params.stop_after)
    def plan = [
        runs: stages.withIndex().collectEntries { stage, index -> [stage, index >= first && index <= last && (stage != 'finetune' || start == stage) && (stage != 'match' || params.match.run)] },
        labels: params.finetune.labels,
        from: params.from_results ? checked_file(params.from_results) : null,
        model: model,
        about: [nextflow: nextflow.version.toString(), revision: workflow.commitId ?: git_revision(), image_sha256: image_sha256],
        design_table: design_table,
    ]
    TEMPLATE_LEARNING(
        settings,
        stage_settings,
        CHECK.out.settings.mix(CHECK.out.inputs).collect(),
        answer.flatMap { all -> all.templates.withIndex().collect { row, index -> tuple(row, template_rows[index].files.path) } },
        answer.flatMap { all -> all.distractors.withIndex().collect { row, index -> tuple(row, distractor_rows[index].files.path) } },
        answer.flatMap { all -> all.tomograms.withIndex().collect { row, index ->
            def files = tomogram_rows[index].files
            tuple(row.id, files.path, files.annotations ?: [], files.mask ?: [], row.voxel_size_angstrom ?: '') } },
        plan,
    )
}
