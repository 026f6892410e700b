process SEGMENT {
    tag "${id}"
    label 'network'

    input:
    tuple val(id), path(tomogram, stageAs: 'tomogram/*'), val(voxel_size_angstrom), val(simulated)      // '' where the header's holds; true or false
    path model, stageAs: 'model.keras'
    val settings

    output:
    tuple val(id), path("${id}.segmentation.mrc"), path("${id}.probability.mrc"), path("${id}.segmentation.mrc.json"), emit: segmentation
    path "${id}.probabilities.mrc.gz", optional: true, emit: probabilities      // with segment.keep_probabilities

    script:
    def size = voxel_size_angstrom ? "--voxel-size-angstrom ${voxel_size_angstrom}" : ''
    def ours = simulated ? '--simulated' : ''
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning segment --model model.keras --tomogram ${tomogram} --id ${id} --settings settings.json ${size} ${ours} --output .
    """

    stub:
    """
    touch ${id}.segmentation.mrc ${id}.probability.mrc ${id}.segmentation.mrc.json
    """
}
