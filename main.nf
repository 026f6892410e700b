#!/usr/bin/env nextflow
// Template Learning: from structures of a molecule to its picks in tomograms.  `nextflow run . --help` lists the calls.

include { given_inputs; column_files; request; checked_structures; checked_tomograms; plan_of; help_text } from './workflows/inputs'
include { check_places; hold_results } from './workflows/places'
include { read_json } from './workflows/json'
include { verified_images } from './workflows/images'
include { CHECK } from './modules/check/main'
include { TEMPLATE_LEARNING } from './workflows/template_learning'

workflow {
    main:
    if (params.help) {
        println(help_text())
    }
    else {
        check_places()
        def held = hold_results(params.outdir, params.from_results)
        workflow.onComplete { log.debug("held until now: ${held}") }         // and so not collected as garbage before
        ClusterOptions.join(nextflow.Global.session.config.process)
        def image_sha256 = verified_images(params)
        def given = given_inputs()
        def plan = plan_of(given, image_sha256)
        CHECK(
            request(given, plan),
            column_files(given.templates, 'path'),
            column_files(given.distractors, 'path'),
            column_files(given.tomograms, 'path'),
            column_files(given.tomograms, 'annotations'),
            column_files(given.tomograms, 'mask'),
            given.design_table?.exists() ? [given.design_table] : [],
            given.model ? [given.model] : [],
            given.tables.values().toList(),
            plan.earlier.findAll { one -> one.file.exists() }.collect { one -> one.file },
            plan.earlier_index ? [plan.earlier_index] : [],
        )

        // Nothing below starts before CHECK has passed: ids and classes come from its answer.
        def answer = CHECK.out.inputs.map { file -> read_json(file) }
        answer.subscribe { all -> all.notes.each { line -> log.warn(line) } }
        TEMPLATE_LEARNING(
            CHECK.out.stage_settings.first().map { file -> read_json(file) },     // first: a value, where topics make outputs queues
            CHECK.out.design.first(),
            answer.flatMap { all -> checked_structures(all.templates, given.templates) },
            answer.flatMap { all -> checked_structures(all.distractors, given.distractors) },
            answer.flatMap { all -> checked_tomograms(all.tomograms, given.tomograms) },
            plan,
        )
    }
}
