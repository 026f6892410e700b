process SEGMENT {
    tag "${id}"
    label 'network'

    input:
    tuple val(id), path(tomogram, stageAs: 'tomogram/*')
    path model, stageAs: 'model.keras'
    val settings

    output:
    tuple val(id), path("${id}.segmentation.mrc"), path("${id}.probability.mrc"), path("${id}.segmentation.mrc.json"), emit: segmentation

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning segment --model model.keras --tomogram ${tomogram} --id ${id} --settings settings.json --output .
    """

    stub:
    """
    touch ${id}.segmentation.mrc ${id}.probability.mrc ${id}.segmentation.mrc.json
    """
}
