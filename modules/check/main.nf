process CHECK {
    tag 'parameters and inputs'
    label 'quick'

    input:
    stdin                                           // JSON: params, and the rows of the input tables
    path templates, stageAs: 'templates/?/*'
    path distractors, stageAs: 'distractors/?/*'
    path tomograms, stageAs: 'tomograms/?/*'
    path annotations, stageAs: 'annotations/?/*'
    path masks, stageAs: 'masks/?/*'
    path design_table, stageAs: 'design/*'
    path model, stageAs: 'model/*'
    path tables, stageAs: 'tables/?/*'              // the input tables as they are
    path earlier, stageAs: 'earlier/?/*'            // files of earlier results that this run takes
    path earlier_index, stageAs: 'earlier_index/*'

    output:
    path 'check/settings.json', emit: settings, topic: published
    path 'check/inputs.json', emit: inputs, topic: published
    path 'check/stage_settings.json', emit: stage_settings      // the same by stage, as its tasks take them; not published
    path 'check/design.csv', emit: design, optional: true       // the user's design table, in plain CSV; not published

    script: // no stub: what follows depends on its answer
    """
    cat > request.json
    template-learning check request.json --output check
    """
}
