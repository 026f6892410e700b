process REPORT {
    tag 'report'
    label 'medium'

    input:
    val ids                                         // of the user's tomograms that are shown
    path tomograms, stageAs: 'tomograms/?/*'
    val annotated                                   // of those with annotations
    path annotations, stageAs: 'annotations/?/*'
    path check, stageAs: 'run/check/*'
    path volume, stageAs: 'run/volume/*'
    path flex, stageAs: 'run/flex/*'
    path design, stageAs: 'run/design/*'
    path tetris, stageAs: 'run/tetris/*'
    path simulate, stageAs: 'run/simulate/*'
    path reconstruct, stageAs: 'run/reconstruct/*'
    path label, stageAs: 'run/label/*'
    path train, stageAs: 'run/train/*'
    path calibrate, stageAs: 'run/calibrate/*'
    path finetune, stageAs: 'run/finetune/*'
    path segment, stageAs: 'run/segment/*'
    path cluster, stageAs: 'run/cluster/*'
    path evaluate, stageAs: 'run/evaluate/*'

    output:
    path 'report.html', emit: page

    script:
    // The report finds a user's tomogram and annotations by the id, whatever their files are called.
    def linked = ids.withIndex().collect { id, index ->
        def one = [tomograms].flatten()[index]
        "ln -s \"\$PWD\"/${one} run/tomograms/${id}.mrc${one.name.endsWith('.gz') ? '.gz' : ''}"
    } + annotated.withIndex().collect { id, index ->
        def one = [annotations].flatten()[index]
        "ln -s \"\$PWD\"/${one} 'run/tomograms/${id}.${one.name.tokenize('.')[-1].toLowerCase()}'"
    }
    """
    mkdir -p run/tomograms
    ${linked.join('\n    ')}
    template-learning report --data run --output report.html
    """

    stub:
    """
    touch report.html
    """
}
