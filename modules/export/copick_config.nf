process COPICK_CONFIG {
    tag 'of all tomograms'
    label 'quick'

    input:
    path configs, stageAs: 'configs/?/*'            // each EXPORT's, of one tomogram

    output:
    path 'export/copick/copick_config.json', topic: published

    script: // no stub: what a run publishes is its wiring
    """
    template-learning copick-config configs/*/copick_config.json --output export/copick/copick_config.json
    """
}
